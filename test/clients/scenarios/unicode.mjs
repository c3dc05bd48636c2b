// Text of all scripts, and what JSON must escape, arrives as it left.
const texts = [
    "åéîøü ß ñ", "Ελληνικά Русский עברית العربية हिन्दी ไทย 中文 日本語 한국어", "😀 👩‍👩‍👧‍👦 🇪🇺 𝒳",
    "\u0000\u0001\u001f\u007f\u0080", "\"\\/\b\f\n\r\t", "\u2028\u2029", "e\u0301 \u202e \ufeff \ufffd", "</script><!-- ]]> & %41 + \\u0041",
];

export async function run(t) {
    const [client, other] = [await t.client(), await t.client()];
    const channel = t.channel("a");
    const inbox = await client.subscribe(channel);
    for (const text of texts) {
        const data = {[text]: text};
        await other.publish(channel, data);
        await inbox.expect(data);
        await t.rest.publish(channel, JSON.stringify(data));
        await inbox.expect(data);
    }
}
