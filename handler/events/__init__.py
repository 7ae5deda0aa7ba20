"""Bytes in, typed events out: decoding, the envelope, deletions and messages. No I/O."""
