"""The service's HTTP side: it reads and writes rows. It neither trains nor searches, and loads no torch."""
