"""Tests of the stream: format, records, reader, verify."""
