# Runs at a board's prompt: prints all that can be reached from there, a line each: "b" and the hex of texts and of what
# holds bytes, "i" and large numbers in hex, "t" and the class of what is gone through; last "end" and how many.
import sys


def walk(*roots):
    todo = list(roots)
    seen = set()
    made = []  # what exists only because it was asked for: the next to be made must not get its place
    while todo:
        thing = todo.pop()
        kind = type(thing)
        if kind is int:
            if thing >> 64:
                print("i", hex(thing)[2:])
            continue
        if kind is str:
            thing = thing.encode()
        try:
            view = memoryview(thing)
        except TypeError:
            pass
        else:
            print("b ", end="")
            for at in range(0, len(view), 32):
                print(bytes(view[at : at + 32]).hex(), end="")
            print()
            continue
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if kind is dict:
            todo.extend(thing)
            todo.extend(thing.values())
        elif kind in (list, tuple, set):
            todo.extend(thing)
        else:
            print("t", kind.__name__)
            for name in dir(thing):
                if not name.startswith("__"):
                    try:
                        value = getattr(thing, name)
                        if value is not getattr(thing, name):
                            made.append(value)
                    except Exception:
                        continue
                    todo.append(value)
    print("end", len(seen))


walk(sys.modules, globals())
