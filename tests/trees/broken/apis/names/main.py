import fastapi

service = fastapi.FastAPI()
