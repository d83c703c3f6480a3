"""What people read: the report, its figures and tables, and the cost page."""
