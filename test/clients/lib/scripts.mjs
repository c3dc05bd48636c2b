// As much of a document as a client needs to load scripts: node has none.

// Gives a window a document; cookies are {keep(uri, header), cookies(uri)}.
export function scripts(window, {keep, cookies}) {
    const load = async script => {
        const url = new URL(script.src);
        const name = url.searchParams.get("jsonp");
        const callback = window[name]; // soon another client's, which would live on another page
        const response = await fetch(url, {headers: {Cookie: cookies(url)}});
        response.headers.getSetCookie().forEach(header => keep(url, header));
        const text = await response.text();
        const type = response.headers.get("Content-Type");
        if (response.status !== 200 || !/^text\/javascript\b/.test(type)) {
            throw new Error(`${response.status} ${type}`);
        }
        return () => new Function(name, text)(callback);
    };
    const head = {
        appendChild(script) {
            load(script).then(run => run(), () => script.onerror({type: "error"}));
        },
        removeChild() {},
    };
    window.document = {getElementsByTagName: () => [head], createElement: () => ({})};
}
