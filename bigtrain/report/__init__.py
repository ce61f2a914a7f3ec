"""One page about one or several runs, whole in itself: settings, curves, pictures, events, hardware, cost."""
