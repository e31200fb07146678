// Thumbnails of the files in a directory: node sharp_server.mjs SHARP PORT DIRECTORY
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { basename, join } from 'node:path'

const [, , library, port, directory] = process.argv
const sharp = createRequire(import.meta.url)(library)
sharp.cache(false)

createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost')
  const side = Number(url.searchParams.get('side'))
  const format = url.searchParams.get('format')
  const options = format === 'jpeg' ? { quality: Number(url.searchParams.get('quality')) } : {}
  try {
    const file = join(directory, basename(url.pathname))
    const made = await sharp(file).resize(side, side, { fit: 'inside' }).toFormat(format, options).toBuffer()
    response.writeHead(200, { 'content-type': `image/${format}`, 'content-length': made.length }).end(made)
  } catch (error) {
    response.writeHead(500).end(String(error))
  }
}).listen(Number(port), '127.0.0.1')
