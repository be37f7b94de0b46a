"""The night as one page, and figures for papers and notebooks."""
