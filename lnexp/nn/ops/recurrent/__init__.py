"""One recurrent layer in one direction over a whole sequence: several implementations behind one dispatch."""
