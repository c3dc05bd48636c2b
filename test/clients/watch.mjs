// Watches one channel with the CometD client as a careful application does:
// it subscribes after every handshake. Prints a line of JSON for each event:
//   node watch.mjs --url http://127.0.0.1:8080/cometd --channel /a
//   {"event":"subscribed"|"message"|"resync"|"lost","at":<ms since 1970>,"n":<data.n>}
import {Console} from "node:console";
import {parseArgs} from "node:util";
import {adapt} from "cometd-nodejs-client";
import {CometD} from "cometd";

const {values: options} = parseArgs({
    options: {
        url: {type: "string", default: "http://127.0.0.1:8080/cometd"},
        channel: {type: "string"},
    },
});
const say = (event, more) => console.log(JSON.stringify({event, at: Date.now(), ...more}));

adapt();
window.console = new Console(process.stderr); // stdout belongs to the events
const cometd = new CometD();
cometd.unregisterTransport("websocket");
cometd.configure({url: options.url, maxBackoff: 1000, backoffIncrement: 200});
cometd.addListener("/meta/handshake", reply => {
    if (!reply.successful) {
        say("lost");
        return;
    }
    cometd.subscribe(
        options.channel,
        message => say("message", {n: message.data.n}),
        answer => say(answer.successful ? "subscribed" : "lost"),
    );
});
cometd.addListener("/meta/connect", reply => {
    if (reply.ext?.comet?.resync?.includes(options.channel)) {
        say("resync");
    }
});
cometd.handshake();
