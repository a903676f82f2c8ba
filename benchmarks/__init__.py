"""Measurements that anyone can repeat; never imported by the library."""
