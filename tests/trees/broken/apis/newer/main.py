type Point = tuple[int, int]
app = 1
