"""What every Windrow process shares: words, ranges, blocks, messages, their codec, and errors; no I/O lives here."""
