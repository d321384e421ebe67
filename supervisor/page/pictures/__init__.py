"""Pictures of what the series tell: SVG as text, each of which says the same in words.

Each takes values and a width in pixels, and gives `Markup`, in which every name is escaped.
"""

from supervisor.page.pictures.charts import chart, spark
from supervisor.page.pictures.goodput import goodput
from supervisor.page.pictures.ledger import ledger
from supervisor.page.pictures.ribbon import ribbon
from supervisor.page.pictures.svg import for_both

__all__ = ["chart", "for_both", "goodput", "ledger", "ribbon", "spark"]
