"""The connections to one host, and what is known of each."""
