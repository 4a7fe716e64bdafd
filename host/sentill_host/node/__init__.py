"""A running node as the host sees it: its frames, its answers, its clock, its health table, its journal read out."""
