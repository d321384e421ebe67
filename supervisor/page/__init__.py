"""The page: what a person looks at, and the buttons they press, in a browser."""
