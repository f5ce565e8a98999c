"""`jt709c profiles learn`: from what was captured to a profile of one's own."""
