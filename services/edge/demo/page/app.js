import { Client } from './bayeux.js'

const shown = 200 // messages kept on the page
const $ = (id) => document.getElementById(id)

let count = 0

const client = new Client('/cometd', {
  state(name, text) {
    $('state').dataset.state = name
    if ($('state-text').textContent !== text) $('state-text').textContent = text // said aloud once
  },
  event(message) {
    show(message.channel, pretty(message.data))
  },
  resync(channels) {
    show(channels.join(', '), 'Some messages were missed: this page was away for longer than they are kept.', 'notice')
  },
  channels(wanted) {
    $('channels').replaceChildren(...[...wanted].map(([channel, confirmed]) => chip(channel, confirmed)))
  },
})

function show(channel, text, kind) {
  count++
  $('count').textContent = count
  $('empty').hidden = true
  const item = document.createElement('li')
  if (kind) item.className = kind
  const about = element('div', 'about', element('b', '', channel))
  const time = element('time', '', new Date().toLocaleTimeString())
  time.dateTime = new Date().toISOString()
  about.append(time)
  item.append(about, element('pre', '', text))
  const list = $('messages')
  list.prepend(item)
  while (list.children.length > shown) list.lastElementChild.remove()
}

function chip(channel, confirmed) {
  const item = element('li', '', channel)
  item.dataset.confirmed = confirmed
  const remove = element('button', '', '×')
  remove.type = 'button'
  remove.setAttribute('aria-label', `Unsubscribe from ${channel}`)
  remove.addEventListener('click', () => {
    $('subscribe-channel').focus()
    report('subscribe-result', client.unsubscribe(channel), `No longer listening to ${channel}`)
  })
  item.append(remove)
  return item
}

function element(name, className, content) {
  const e = document.createElement(name)
  if (className) e.className = className
  e.append(content)
  return e
}

function pretty(data) {
  return typeof data === 'string' ? data : JSON.stringify(data, null, 2)
}

// value takes JSON as it is and everything else as text.
function value(text) {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

async function report(id, promise, success) {
  const result = $(id)
  result.textContent = ''
  try {
    await promise
    result.textContent = success
    result.classList.remove('failed')
  } catch (error) {
    result.textContent = error.message
    result.classList.add('failed')
  }
}

$('subscribe').addEventListener('submit', (event) => {
  event.preventDefault()
  const input = $('subscribe-channel')
  const channel = input.value.trim()
  report('subscribe-result', client.subscribe(channel), `Listening to ${channel}`)
  input.value = ''
})

$('publish').addEventListener('submit', (event) => {
  event.preventDefault()
  const channel = $('publish-channel').value.trim()
  report('publish-result', client.publish(channel, value($('publish-data').value)), `Accepted on ${channel}`)
})

$('publish-data').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('publish').requestSubmit()
})

$('clear').addEventListener('click', () => {
  $('messages').replaceChildren()
  count = 0
  $('count').textContent = count
  $('empty').hidden = false
})

const publishURL = document.body.dataset.publishUrl
if (publishURL) {
  $('curl-section').hidden = false
  const update = () => {
    const body = JSON.stringify({ channel: $('publish-channel').value.trim(), data: value($('publish-data').value) })
    $('curl').textContent = `curl -H 'Content-Type: application/json' -d '${body.replaceAll("'", String.raw`'\''`)}' ${publishURL}`
  }
  $('publish').addEventListener('input', update)
  update()
  $('copy').addEventListener('click', () => {
    const copied = navigator.clipboard ? navigator.clipboard.writeText($('curl').textContent) : Promise.reject(new Error('Select the command and copy it'))
    report('copy-result', copied, 'Copied')
  })
}

addEventListener('pagehide', () => client.stop())
addEventListener('pageshow', (event) => { if (event.persisted) location.reload() })

client.subscribe('/demo')
client.run()
