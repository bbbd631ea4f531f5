"""The commands of `segmenter`, by what they are for; each imports what it needs inside."""
