"""Recognition: is what is heard the machine that its bundle was learnt from?"""
