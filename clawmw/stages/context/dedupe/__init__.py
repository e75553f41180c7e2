"""What repeats is sent once: whole results, lines of documents, fields of records."""
