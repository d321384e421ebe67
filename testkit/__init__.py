"""What tests and benchmarks share: machines made of numbers, and real ones to break.

Made of numbers, so that nothing waits: `builders`, `fakes`, `place`, `simulated_life`,
`written_life`. Real: `machine` with its `processes`, a `witness` of them, `disks`, a `false_clock`,
other `accounts`, `worlds` of one test, and a `boot_lab`. Programs that were only installed run
without pytest: of what they use, nothing imports it.
"""
