import MigrationEngine
import MigrationSession
import Testing

/// The journal's bytes: what is written comes back, and nothing else is taken for a record.
struct JournalRecordTests {
  static let full = JournalRecord(
    name: "vm \"100\" – größer\u{0}",
    source: JournalRecord.QEMU(
      monitor: "unix:/run/source.qmp", outOfBandMonitor: "unix:/run/source-oob.qmp",
      process: PeerProcess(pid: 4711, startTime: .max),
      capabilities: [
        CapabilitySetting(name: "events", on: false), CapabilitySetting(name: "xbzrle", on: true),
      ],
      parameters: [
        ParameterSetting(name: "max-bandwidth", value: .unsigned(.max)),
        ParameterSetting(name: "downtime-limit", value: .integer(.min)),
        ParameterSetting(name: "block-incremental", value: .boolean(true)),
        ParameterSetting(name: "tls-creds", value: .string("")),
      ]),
    target: JournalRecord.QEMU(monitor: "tcp:[::1]:4444"),
    handOver: .beforeResume, sourceEnd: .quit, runState: "running",
    mirrors: [
      JournalRecord.Mirror(device: "d0", jobID: "swo-mirror0", node: "swo-nbd0", isOurs: true),
      JournalRecord.Mirror(device: "d1", jobID: "drive-d1", node: nil, isOurs: false),
    ],
    machine: "boot/pid",
    outcome: JournalRecord.Outcome(
      end: .unknown, owner: .unknown, guest: .unknown, text: "lost", nextStep: "recover"))

  static var small: JournalRecord {
    JournalRecord(
      name: "guest", source: JournalRecord.QEMU(monitor: "fd:3"),
      target: JournalRecord.QEMU(monitor: "fd:4"), handOver: .none, sourceEnd: .keep, runState: "")
  }

  private func error(_ bytes: [UInt8]) -> JournalRecordError? {
    do throws(JournalRecordError) {
      _ = try JournalRecord.decode(bytes)
      return nil
    } catch {
      return error
    }
  }

  @Test(arguments: [full, small])
  func comesBackAsItWas(record: JournalRecord) throws {
    #expect(try JournalRecord.decode(record.encoded) == record)
    // What follows a record is not part of it.
    #expect(try JournalRecord.decode(record.encoded + Array("rest".utf8)) == record)
  }

  @Test func everyWordComesBack() throws {
    for handOver in HandOverMode.allCases {
      for owner in Owner.allCases {
        for guest in GuestCondition.allCases {
          for end in MigrationEnd.allCases {
            var record = Self.small
            record.handOver = handOver
            record.outcome = JournalRecord.Outcome(
              end: end, owner: owner, guest: guest, text: "", nextStep: "")
            let again = try JournalRecord.decode(record.encoded)
            #expect(again == record)
            #expect(again.isSettled == (owner == .source || owner == .target))
          }
        }
      }
    }
    #expect(!Self.small.isSettled)
  }

  @Test(arguments: [full, small])
  func tornAtAnyByteItIsDamaged(record: JournalRecord) {
    let bytes = record.encoded
    #expect(error([]) == .empty)
    // Only the last byte, a line's end, may be missing.
    for count in 1..<(bytes.count - 1) {
      #expect(error(Array(bytes.prefix(count))) == .damaged, "\(count) bytes")
    }
  }

  @Test(arguments: [full, small])
  func noFlippedBitGoesUnnoticed(record: JournalRecord) {
    let bytes = record.encoded
    for position in 0..<(bytes.count - 1) {
      for bit in 0..<8 {
        var flipped = bytes
        flipped[position] ^= 1 << UInt8(bit)
        let decoded = try? JournalRecord.decode(flipped)
        // A digit of the checksum may change its case.
        #expect(decoded == nil || decoded == record, "byte \(position), bit \(bit)")
      }
    }
  }

  @Test func otherFilesAreForeign() {
    for text in [
      "{}", "\n", "Switchover-journal 1", "switchover-journey", "\u{7f}ELF", "{\"a\": 1}",
    ] {
      #expect(error(Array(text.utf8)) == .foreign, "\(text)")
    }
    #expect(error([UInt8](repeating: 0, count: 4096)) == .foreign)
  }

  @Test func aNewerVersionIsNamed() {
    for version in [2, 99, Int.max] {
      #expect(
        error(Array("switchover-journal \(version) anything else\n".utf8))
          == .newer(version: version))
    }
  }

  @Test func headersThatMakeNoSenseAreDamaged() {
    for line in [
      "switchover-journal ", "switchover-journal \n", "switchover-journal x 0 0\n",
      "switchover-journal 1\n", "switchover-journal 1 0\n", "switchover-journal 1 0 0 0\n",
      "switchover-journal 1 0 -1\n", "switchover-journal 1 0 99999999999999999999\n",
      "switchover-journal 1 0 9223372036854775807\n", "switchover-journal 1 zz 0\n",
      "switchover-journal 1 0 0\n", "switchover-journal 99999999999999999999 0 0\n",
    ] {
      #expect(error(Array(line.utf8)) == .damaged, "\(line)")
    }
  }

  /// A good checksum over a body that is no record.
  @Test(arguments: [
    "", "null", "[]", "{}", "{\"name\": 1}", "{\"name\": \"x\", \"source\": {}}",
    "{\"name\":\"x\",\"source\":{\"monitor\":\"a\"},\"target\":{\"monitor\":\"b\"},"
      + "\"hand-over\":\"tomorrow\",\"run-state\":\"\",\"mirrors\":[]}",
    "{\"name\":\"x\",\"source\":{\"monitor\":\"a\"},\"target\":{\"monitor\":\"b\"},"
      + "\"hand-over\":\"none\",\"run-state\":\"\",\"mirrors\":[],\"outcome\":{\"end\":\"well\"}}",
  ])
  func bodiesThatAreNoRecordAreDamaged(body: String) {
    let text =
      "switchover-journal 1 \(String(checksum(body), radix: 16)) \(body.utf8.count)\n\(body)\n"
    #expect(error(Array(text.utf8)) == .damaged)
  }

  /// CRC-32, written down a second time.
  private func checksum(_ text: String) -> UInt32 {
    let table = (0..<UInt32(256)).map { index in
      (0..<8).reduce(index) { value, _ in
        value & 1 == 1 ? 0xEDB8_8320 ^ (value >> 1) : value >> 1
      }
    }
    return ~text.utf8.reduce(~UInt32(0)) { table[Int(($0 ^ UInt32($1)) & 0xFF)] ^ ($0 >> 8) }
  }

  @Test func theChecksumIsTheUsualOne() {
    #expect(checksum("123456789") == 0xCBF4_3926)
    let bytes = String(decoding: Self.small.encoded, as: UTF8.self)
    let parts = bytes.split(separator: "\n", maxSplits: 1)
    let body = String(parts[1].dropLast())
    #expect(parts[0].contains(String(checksum(body), radix: 16)))
  }
}
