from fastapi import FastAPI

app = FastAPI()
numbers = [1 2]
