"""From claims and the judge's clock to a figure, and what it is compared with."""
