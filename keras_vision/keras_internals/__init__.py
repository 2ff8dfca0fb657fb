"""Every use of a private name of Keras, in one place to check when Keras is upgraded.

`names.PRIVATE` lists them, and a test compares the list with the installed Keras.
"""
