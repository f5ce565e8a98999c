"""Tests of jt709c-gateway."""
