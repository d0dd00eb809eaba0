"""The explorer: a page that asks questions about numbers, and the answers, which precsim computes.

The page (`page/`) only draws. It reaches Python by one function, `answers.answer`, of the standard
library alone: through a server of this machine, or inside the browser.
"""
