/// The two digests that OpenSSH's files are written with.
///
/// They name things here (a fingerprint, a hashed host name) and protect nothing: what is secret
/// stays inside libssh2's own cryptography.
enum Digest {
  /// The 32 bytes of SHA-256.
  static func sha256(_ bytes: [UInt8]) -> [UInt8] {
    var state: [UInt32] = [
      0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a,
      0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ]
    for block in paddedBlocks(bytes) { compressSHA256(&state, block) }
    return bigEndianBytes(state)
  }

  /// The 20 bytes of SHA-1.
  static func sha1(_ bytes: [UInt8]) -> [UInt8] {
    var state: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]
    for block in paddedBlocks(bytes) { compressSHA1(&state, block) }
    return bigEndianBytes(state)
  }

  /// HMAC with SHA-1, by which known_hosts hides its host names.
  static func hmacSHA1(key: [UInt8], message: [UInt8]) -> [UInt8] {
    var padded = key.count > 64 ? sha1(key) : key
    padded += [UInt8](repeating: 0, count: 64 - padded.count)
    let inner = sha1(padded.map { $0 ^ 0x36 } + message)
    return sha1(padded.map { $0 ^ 0x5c } + inner)
  }

  /// The message with its bit and its length, as sixteen-word blocks.
  private static func paddedBlocks(_ bytes: [UInt8]) -> [[UInt32]] {
    var message = bytes
    message.append(0x80)
    while message.count % 64 != 56 { message.append(0) }
    let bitCount = UInt64(bytes.count) &* 8
    for shift in stride(from: 56, through: 0, by: -8) {
      message.append(UInt8(truncatingIfNeeded: bitCount >> UInt64(shift)))
    }
    return stride(from: 0, to: message.count, by: 64).map { start in
      (0..<16).map { word in
        let at = start + word * 4
        return UInt32(message[at]) << 24 | UInt32(message[at + 1]) << 16
          | UInt32(message[at + 2]) << 8 | UInt32(message[at + 3])
      }
    }
  }

  private static func bigEndianBytes(_ words: [UInt32]) -> [UInt8] {
    words.flatMap { word in
      [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: word >> UInt32($0)) }
    }
  }

  private static func rotateRight(_ word: UInt32, _ count: UInt32) -> UInt32 {
    word >> count | word << (32 - count)
  }

  private static func compressSHA256(_ state: inout [UInt32], _ block: [UInt32]) {
    var schedule = block
    schedule.reserveCapacity(64)
    for index in 16..<64 {
      let early = schedule[index - 15]
      let late = schedule[index - 2]
      let first = rotateRight(early, 7) ^ rotateRight(early, 18) ^ early >> 3
      let second = rotateRight(late, 17) ^ rotateRight(late, 19) ^ late >> 10
      schedule.append(schedule[index - 16] &+ first &+ schedule[index - 7] &+ second)
    }
    var (a, b, c, d) = (state[0], state[1], state[2], state[3])
    var (e, f, g, h) = (state[4], state[5], state[6], state[7])
    for index in 0..<64 {
      let sumE = rotateRight(e, 6) ^ rotateRight(e, 11) ^ rotateRight(e, 25)
      let choice = (e & f) ^ (~e & g)
      let first = h &+ sumE &+ choice &+ roundConstants[index] &+ schedule[index]
      let sumA = rotateRight(a, 2) ^ rotateRight(a, 13) ^ rotateRight(a, 22)
      let majority = (a & b) ^ (a & c) ^ (b & c)
      (h, g, f, e) = (g, f, e, d &+ first)
      (d, c, b, a) = (c, b, a, first &+ sumA &+ majority)
    }
    for (index, word) in [a, b, c, d, e, f, g, h].enumerated() { state[index] &+= word }
  }

  private static func compressSHA1(_ state: inout [UInt32], _ block: [UInt32]) {
    var schedule = block
    schedule.reserveCapacity(80)
    for index in 16..<80 {
      let mixed =
        schedule[index - 3] ^ schedule[index - 8] ^ schedule[index - 14] ^ schedule[index - 16]
      schedule.append(rotateRight(mixed, 31))
    }
    var (a, b, c, d, e) = (state[0], state[1], state[2], state[3], state[4])
    for index in 0..<80 {
      let (mixed, constant): (UInt32, UInt32) =
        switch index {
        case ..<20: ((b & c) | (~b & d), 0x5a82_7999)
        case ..<40: (b ^ c ^ d, 0x6ed9_eba1)
        case ..<60: ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc)
        default: (b ^ c ^ d, 0xca62_c1d6)
        }
      let next = rotateRight(a, 27) &+ mixed &+ e &+ constant &+ schedule[index]
      (e, d, c, b, a) = (d, c, rotateRight(b, 2), a, next)
    }
    for (index, word) in [a, b, c, d, e].enumerated() { state[index] &+= word }
  }

  private static let roundConstants: [UInt32] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4,
    0xab1c_5ed5, 0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe,
    0x9bdc_06a7, 0xc19b_f174, 0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f,
    0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da, 0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7,
    0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967, 0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc,
    0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85, 0xa2bf_e8a1, 0xa81a_664b,
    0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070, 0x19a4_c116,
    0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7,
    0xc671_78f2,
  ]
}

/// Base64 with the standard alphabet.
enum Base64 {
  private static let alphabet = Array(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  /// The text of `bytes`, filled up with `=` unless `padded` is false.
  static func encode(_ bytes: [UInt8], padded: Bool = true) -> String {
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count + 2) / 3 * 4)
    var index = 0
    while index < bytes.count {
      let rest = min(3, bytes.count - index)
      var group = UInt32(bytes[index]) << 16
      if rest > 1 { group |= UInt32(bytes[index + 1]) << 8 }
      if rest > 2 { group |= UInt32(bytes[index + 2]) }
      for position in 0..<4 {
        if position <= rest {
          text.append(alphabet[Int(group >> UInt32(18 - 6 * position) & 63)])
        } else if padded {
          text.append(UInt8(ascii: "="))
        }
      }
      index += 3
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// The bytes of `text`, line breaks ignored; nil unless it is whole and of the alphabet.
  static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    var whole = true
    let bytes = [UInt8](unsafeUninitializedCapacity: text.count / 4 * 3 + 3) { room, count in
      let decoded = decode(text, into: UnsafeMutableRawBufferPointer(room))
      whole = decoded != nil
      count = decoded ?? 0
    }
    return whole ? bytes : nil
  }

  /// Writes the bytes of `text` to `room` and nowhere else; their number, or nil if the text is not
  /// whole, not of the alphabet or too long.
  static func decode(
    _ text: some Collection<UInt8>, into room: UnsafeMutableRawBufferPointer
  ) -> Int? {
    var written = 0
    var group: UInt32 = 0
    var bits = 0
    var characters = 0
    var filling = 0
    for character in text where character != 10 && character != 13 {
      if character == UInt8(ascii: "=") {
        filling += 1
        continue
      }
      guard filling == 0, let value = value(of: character) else { return nil }
      group = group << 6 | value
      bits += 6
      characters += 1
      guard bits >= 8 else { continue }
      guard written < room.count else { return nil }
      bits -= 8
      room[written] = UInt8(truncatingIfNeeded: group >> UInt32(bits))
      written += 1
    }
    let expected = (4 - characters % 4) % 4
    guard expected != 3, filling == 0 || filling == expected else { return nil }
    return written
  }

  private static func value(of character: UInt8) -> UInt32? {
    switch character {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }
}
