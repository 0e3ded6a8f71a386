"""The main job, watched: the world's countries, cached, changed, dropped where needed."""
