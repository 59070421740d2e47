"""Every contract between two processes: events, topics, tables, errors, HTTP. No socket, no clock."""
