"""The promises of the main job, one test each, made from outside and trusting nothing."""
