"""The evaluator measured on a GPU: how true its times are, how steady, and how many candidates a minute it judges."""
