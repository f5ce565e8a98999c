"""Reports about locks: from what Redis keeps of them to documents for people, without Redis."""
