// Runs the scenarios against the reference servers, so that a failure elsewhere
// is known to be the server's: node reference.mjs [scenario,…]
import {spawn} from "node:child_process";
import http from "node:http";
import {createRequire} from "node:module";

const require = createRequire(import.meta.url);

// What the reference servers do otherwise, on purpose or not.
const differs = {
    cometd: {
        neighbours: "it accepts empty segments",
        resume: "an event that was written to a dead connection is lost",
        roster: "no such channels",
        refused: "other errors; inner wildcards and wildcard publishes are accepted",
        timesync: "no such extension",
        wildcard: "one copy per matching subscription",
        exact: "payloads are parsed and written anew",
    },
    faye: {
        exact: "payloads are parsed and written anew",
        roster: "no such channels",
    },
};

// REST is the part of Comet's REST door that scenarios use, over a server that
// can publish and deliver.
function rest(server) {
    const history = new Map();
    const listeners = new Set();
    let position = 0;
    server.onService?.(message => listeners.forEach(fn => fn(message)));
    const routes = {
        "/v1/publish": (_, body, reply) => {
            const {channel, data} = JSON.parse(body);
            history.set(channel, [...history.get(channel) ?? [], data]);
            server.publish(channel, data);
            reply.end(JSON.stringify({position: String(++position), duplicate: false}));
        },
        "/v1/history": (query, _, reply) => {
            const channel = query.get("channel");
            const messages = (server.history ?? history).get(channel) ?? [];
            reply.end(JSON.stringify({messages: messages.map(data => ({channel, data}))}));
        },
        "/v1/deliver": (_, body, reply) => {
            server.deliver(JSON.parse(body));
            reply.end("{}");
        },
        "/v1/disconnect": (_, body, reply) => {
            server.disconnect(JSON.parse(body).session);
            reply.end("{}");
        },
        "/v1/sessions/subscribe": (_, body, reply) => {
            server.enlist(JSON.parse(body));
            reply.end("{}");
        },
        "/v1/sessions/unsubscribe": (_, body, reply) => {
            server.withdraw(JSON.parse(body));
            reply.end("{}");
        },
        "/v1/subscribe": (_query, _body, reply) => {
            const send = result => reply.write(JSON.stringify({result}) + "\n");
            const listener = message => send({message});
            listeners.add(listener);
            reply.on("close", () => listeners.delete(listener));
            send({open: {cursor: "0"}});
        },
    };
    return async (request, reply) => {
        const url = new URL(request.url, "http://localhost");
        let body = "";
        for await (const chunk of request) {
            body += chunk;
        }
        routes[url.pathname](url.searchParams, body, reply);
    };
}

function cometd() {
    const library = require("cometd-nodejs-server");
    const {AcknowledgedMessagesExtension} = require("cometd-nodejs-server/ack-extension.js");
    const server = library.createCometDServer({timeout: 2000, maxInterval: 3000});
    server.addExtension(new AcknowledgedMessagesExtension());
    const history = new Map();
    let heard = () => {};
    server.addExtension({
        incoming(_cometd, session, {channel, data, id}, done) {
            if (channel?.startsWith("/service/")) {
                heard({channel, data, id, session: session.id});
            } else if (data !== undefined) {
                history.set(channel, [...history.get(channel) ?? [], data]);
            }
            done(undefined, true);
        },
    });
    return {
        history,
        onService: fn => heard = fn,
        publish(channel, data) {
            history.set(channel, [...history.get(channel) ?? [], data]);
            (server.getServerChannel(channel) ?? server.createServerChannel(channel)).publish(null, data);
        },
        deliver({session, channel, id, data, failed}) {
            server.getServerSession(session)._deliver(null, {channel, id, data, successful: !failed});
        },
        disconnect: session => server.getServerSession(session).disconnect(),
        enlist: ({session, channels}) => channels.forEach(channel =>
            (server.getServerChannel(channel) ?? server.createServerChannel(channel))._subscribe(server.getServerSession(session), null, () => {})),
        withdraw: ({session, channels}) => channels.forEach(channel =>
            server.getServerChannel(channel)?._unsubscribe(server.getServerSession(session), null, () => {})),
        listen: () => listen(server.handle),
    };
}

function fayeServer() {
    const faye = require("faye");
    const adapter = new faye.NodeAdapter({mount: "/cometd", timeout: 2});
    const history = new Map();
    adapter.addExtension({
        incoming(message, done) {
            if (message.data !== undefined) {
                history.set(message.channel, [...history.get(message.channel) ?? [], message.data]);
            }
            done(message);
        },
    });
    return {
        history,
        publish: (channel, data) => adapter.getClient().publish(channel, data),
        listen: async () => {
            const server = http.createServer();
            adapter.attach(server);
            return listening(server);
        },
    };
}

function listening(server) {
    return new Promise(done => server.listen(0, "127.0.0.1", () => done(`127.0.0.1:${server.address().port}`)));
}

const listen = handler => listening(http.createServer(handler));

let failed = false;
for (const [client, server] of [["cometd", cometd()], ["faye", fayeServer()]]) {
    const url = `http://${await server.listen()}/cometd`;
    const door = `http://${await listen(rest(server))}`;
    const only = process.argv[2] ? ["--only", process.argv[2]] : ["--skip", Object.keys(differs[client]).join()];
    const run = spawn(process.execPath, ["run.mjs", "--client", client, "--url", url, "--rest", door, "--max-interval", "4000", ...only], {
        cwd: import.meta.dirname, stdio: "inherit",
    });
    const code = await new Promise(done => run.on("close", done));
    failed ||= code !== 0;
}
process.exit(failed ? 1 : 0);
