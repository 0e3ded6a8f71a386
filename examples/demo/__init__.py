"""The main job, watched: the world's countries cached, changed, and dropped exactly where needed."""
