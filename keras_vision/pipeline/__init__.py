"""From a recipe to a run's folder: the only room that knows all six stages."""
