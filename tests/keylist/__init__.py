"""Key lists of models: taken from files and classes, compared with each other, proposed as data, and checked."""
