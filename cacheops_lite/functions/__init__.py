"""What remembers under a decorator: functions, views, fragments; and rows with a fingerprint."""
