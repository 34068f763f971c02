"""How Django writes numbers and dates in other languages."""
