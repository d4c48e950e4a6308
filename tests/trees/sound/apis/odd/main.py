try:
    from fast import app
except ImportError:
    async def app(scope, receive, send):
        pass
