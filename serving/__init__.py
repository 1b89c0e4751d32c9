"""A model behind HTTP: uploads, the queue, the thread of the network, and a page to try it."""
