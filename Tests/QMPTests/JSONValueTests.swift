import QMP
import Testing

@Suite struct JSONValueTests {
  @Test func integersKeepEveryBit() {
    #expect(JSONValue(UInt64.max) == .unsigned(.max))
    #expect(JSONValue(UInt64(Int64.max)) == .integer(.max))
    #expect(JSONValue(UInt64(Int64.max) + 1).int64 == nil)
    #expect(JSONValue(UInt64(Int64.max) + 1).uint64 == 1 << 63)
    #expect(JSONValue.integer(.min).int64 == .min)
    #expect(JSONValue.integer(-1).uint64 == nil)
    #expect(JSONValue.number(1).int64 == nil && JSONValue.number(1).uint64 == nil)
    #expect(JSONValue.integer(3).double == 3 && JSONValue.unsigned(.max).double == 0x1p64)
  }

  @Test func accessorsGiveNilForOtherKinds() {
    let value: JSONValue = [
      "text": "x", "truth": true, "list": [1, 2.5, nil], "object": ["inner": -1],
    ]
    #expect(value["text"]?.string == "x")
    #expect(value["truth"]?.bool == true)
    #expect(value["list"]?[0]?.int64 == 1)
    #expect(value["list"]?[1]?.double == 2.5)
    #expect(value["list"]?[2] == .null)
    #expect(value["list"]?[3] == nil && value["list"]?[-1] == nil)
    #expect(value["list"]?.array?.count == 3)
    #expect(value["object"]?["inner"]?.int64 == -1)
    #expect(value["object"]?.object?.count == 1)
    #expect(value["missing"] == nil && value[0] == nil && value.array == nil)
    #expect(value.string == nil && value.bool == nil && value.double == nil)
    #expect(JSONValue.null["x"] == nil && JSONValue.null.object == nil)
  }

  @Test func objectsAreOrderedButEqualInAnyOrder() {
    let object: JSONObject = ["b": 1, "a": 2, "b": 3]
    #expect(object.map(\.name) == ["b", "a"])
    #expect(object["b"] == 3)
    #expect(object == ["a": 2, "b": 3])
    #expect(object != ["a": 2, "b": 4])
    #expect(object != ["a": 2, "c": 3])
    #expect(object != ["a": 2])
  }

  @Test func membersAreSetReplacedAndRemoved() {
    var object = JSONObject()
    object["x"] = 1
    object["y"] = 2
    object["x"] = "new"
    object["none"] = nil
    #expect(object.map(\.name) == ["x", "y"] && object["x"] == "new")
    object["x"] = nil
    #expect(object.count == 1 && object["x"] == nil)
  }
}
