"""The night as one page, and figures."""
