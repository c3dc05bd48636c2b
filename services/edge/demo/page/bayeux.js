// A small Bayeux 1.0 client over long-polling: enough for this page, and to
// read. Applications use the cometd or faye packages.

const backoffStep = 1000
const backoffMost = 15000

export class Client {
  #base
  #on
  #clientId = ''
  #nextId = 1
  #advice = { interval: 0, timeout: 30000 }
  #wanted = new Map() // channel → confirmed
  #stopped = false

  // on has state(name, text), event(message), channels(map) and resync(list).
  constructor(base, on) {
    this.#base = base
    this.#on = on
  }

  // run keeps the client connected until stop.
  async run() {
    let failures = 0
    while (!this.#stopped) {
      try {
        await this.#handshake()
        failures = 0
        await this.#poll(() => { failures = 0 })
      } catch (error) {
        if (this.#stopped) return
        failures++
        this.#on.state('connecting', `Trying again: ${error.message}`)
      }
      await sleep(Math.max(this.#advice.interval ?? 0, Math.min(failures * backoffStep, backoffMost)))
    }
  }

  // stop leaves, also while the page unloads.
  stop() {
    this.#stopped = true
    if (!this.#clientId) return
    const bye = [{ channel: '/meta/disconnect', clientId: this.#clientId }]
    navigator.sendBeacon(`${this.#base}/disconnect`, new Blob([JSON.stringify(bye)], { type: 'text/plain' }))
    this.#clientId = ''
    this.#on.state('disconnected', 'Disconnected')
  }

  async subscribe(channel) {
    if (this.#wanted.has(channel)) return
    this.#wanted.set(channel, false)
    this.#on.channels(this.#wanted)
    if (this.#clientId) await this.#subscribe(channel)
  }

  async unsubscribe(channel) {
    this.#wanted.delete(channel)
    this.#on.channels(this.#wanted)
    if (this.#clientId) await this.#request('', { channel: '/meta/unsubscribe', subscription: channel })
  }

  // publish resolves when the message is accepted.
  async publish(channel, data) {
    if (!this.#clientId) throw new Error('not connected')
    await this.#request('', { channel, data })
  }

  async #handshake() {
    this.#on.state('connecting', 'Connecting')
    this.#clientId = ''
    for (const channel of this.#wanted.keys()) this.#wanted.set(channel, false)
    this.#on.channels(this.#wanted)
    const reply = await this.#request('handshake', {
      channel: '/meta/handshake', version: '1.0', supportedConnectionTypes: ['long-polling'],
    })
    this.#clientId = reply.clientId
    for (const channel of [...this.#wanted.keys()]) {
      this.#subscribe(channel).catch(() => {}) // shown by #subscribe
    }
  }

  // poll returns when the session is gone, and throws on what a retry with the
  // same session did not mend.
  async #poll(succeeded) {
    let advice = { timeout: 0 } // the first is answered at once
    for (let failures = 0; !this.#stopped;) {
      try {
        const message = { channel: '/meta/connect', connectionType: 'long-polling' }
        if (advice) message.advice = advice
        const reply = await this.#request('connect', message)
        this.#on.state('connected', 'Connected')
        succeeded()
        failures = 0
        advice = undefined
        const lost = reply.ext?.comet?.resync
        if (lost) this.#on.resync(lost)
        if (this.#advice.reconnect === 'none') return this.stop()
        await sleep(this.#advice.interval ?? 0)
      } catch (error) {
        if (this.#stopped || error.advice?.reconnect === 'handshake') return
        if (error.advice?.reconnect === 'none') return this.stop()
        failures++
        this.#on.state('connecting', `Trying again: ${error.message}`)
        if (failures > 5) throw error
        advice = { timeout: 0 }
        await sleep(Math.max(this.#advice.interval ?? 0, Math.min(failures * backoffStep, backoffMost)))
      }
    }
  }

  async #subscribe(channel) {
    try {
      await this.#request('', { channel: '/meta/subscribe', subscription: channel })
      if (this.#wanted.has(channel)) this.#wanted.set(channel, true)
    } catch (error) {
      if (error.refused) this.#wanted.delete(channel)
      throw error
    } finally {
      this.#on.channels(this.#wanted)
    }
  }

  // request sends one message, takes what comes with the reply, and returns
  // the reply or throws what it says.
  async #request(suffix, message) {
    message.id = String(this.#nextId++)
    if (this.#clientId) message.clientId = this.#clientId
    const response = await fetch(`${this.#base}/${suffix}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify([message]),
      cache: 'no-store',
    }).catch(() => { throw new Error('the server cannot be reached') })
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}))
      throw new Error(problem.detail ?? `the server answered ${response.status}`)
    }
    let reply
    for (const m of await response.json()) {
      if (m.advice) this.#advice = m.advice
      if (m.id === message.id && m.successful !== undefined) reply = m
      else if ('data' in m) this.#on.event(m)
    }
    if (reply?.successful) return reply
    const error = new Error(reply?.error ?? 'the server did not answer')
    error.advice = reply?.advice
    error.refused = reply !== undefined
    throw error
  }
}

function sleep(ms) {
  return new Promise((done) => { setTimeout(done, ms) })
}
