// Faye's server with its door where Comet has it, and POST /v1/publish, on the
// port given.
import http from "node:http";
import {createRequire} from "node:module";

const faye = createRequire(new URL("../clients/", import.meta.url))("faye");
const bayeux = new faye.NodeAdapter({mount: "/cometd", timeout: 30});

const publish = async (request, response) => {
    const parts = [];
    for await (const part of request) {
        parts.push(part);
    }
    const {channel, data} = JSON.parse(Buffer.concat(parts));
    await bayeux.getClient().publish(channel, data);
    response.writeHead(200, {"Content-Type": "application/json"});
    response.end("{}");
};

const server = http.createServer((request, response) => {
    if (request.url === "/v1/publish") {
        publish(request, response);
        return;
    }
    response.writeHead(404);
    response.end();
});
server.keepAliveTimeout = server.requestTimeout = server.headersTimeout = server.timeout = 0;
bayeux.attach(server);
server.listen({port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096});
