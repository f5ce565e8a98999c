"""`jt709c profiles learn`: writes a profile from a capture."""
