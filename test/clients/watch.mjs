// Follows one channel with the CometD client, as an application would: it
// subscribes after every handshake. Prints a line of JSON for each event:
//   node watch.mjs --url http://127.0.0.1:8080/cometd --channel /a
//   {"event":"subscribed"|"message"|"resync"|"lost","at":<ms since 1970>,"n":<data.n>}
import {parseArgs} from "node:util";
import {Client} from "./lib/cometd.mjs";

const {values: options} = parseArgs({
    options: {
        url: {type: "string", default: "http://127.0.0.1:8080/cometd"},
        channel: {type: "string", default: "/watch"},
    },
});
const tell = (event, more) => console.log(JSON.stringify({event, at: Date.now(), ...more}));

const {native} = new Client(options.url, "long-polling");
native.configure({url: options.url, logLevel: "error", backoffIncrement: 200, maxBackoff: 1000});

let session = 0; // counts handshakes
function subscribe(mine) {
    native.subscribe(options.channel, ({data}) => mine === session && tell("message", {n: data.n}), reply => {
        if (mine !== session) {
            return;
        }
        if (reply.successful) {
            tell("subscribed");
            return;
        }
        tell("lost", {error: reply.error});
        setTimeout(() => mine === session && subscribe(mine), 500);
    });
}

native.addListener("/meta/handshake", reply => {
    if (reply.successful) {
        subscribe(++session);
    } else {
        tell("lost", {error: reply.error});
    }
});
native.addListener("/meta/connect", reply => {
    if (reply.ext?.comet?.resync?.includes(options.channel)) {
        tell("resync");
    }
});
native.handshake();
