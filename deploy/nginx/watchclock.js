function address(request) {
    const sent = request.rawVariables.request_uri;
    let encoded = '';
    for (let i = 0; i < sent.length; i++) {
        const byte = sent[i];
        const refused = byte < 0x21 || byte > 0x7e || byte === 0x22 || byte === 0x3c || byte === 0x3e;
        encoded += refused ? '%' + (256 + byte).toString(16).slice(1).toUpperCase() : String.fromCharCode(byte);
    }
    return encoded;
}
export default { address };
