"""Bytes in, typed events out: decoding, the envelope and what deletion events say. No I/O."""
