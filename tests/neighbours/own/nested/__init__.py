"""Trees of django-mptt: nested sets, which updates by expressions shift."""
