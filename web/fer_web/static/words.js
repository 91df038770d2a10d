// The page's words in English and Chinese, and what numbers look like.

const ENGLISH = {
  title: "Facial expressions in pictures",
  settings: "Settings",
  docs: "API",
  language: "Language",
  theme: "Colours",
  theme_auto: "Automatic",
  theme_light: "Light",
  theme_dark: "Dark",
  meaning_title: "What the answer means",
  meaning: "The answer is the apparent facial expression as an annotator would label the picture. It is not what a person feels, and no evidence of truthfulness or intent.",
  wrong: "The model is wrong at times, also with high confidence. Fairness across groups of people is not measured.",
  prohibited_title: "Prohibited",
  prohibited_1: "Any use in workplaces or education institutions, for hiring, or for supervising examinations",
  prohibited_2: "Decisions about persons on the strength of an expression",
  prohibited_3: "Covert use",
  law: "In the EU, inferring emotions in workplaces and education institutions is prohibited by law (Regulation (EU) 2024/1689, Art. 5(1)(f), except for medical or safety reasons); consent does not change this. Elsewhere there, the persons exposed must be told (Art. 50(3)).",
  give_title: "Choose pictures, or drop them here",
  choose: "Choose pictures",
  photograph: "Take a photo",
  paste: "Paste",
  privacy: "Pictures are sent to this service and to nothing else. They are answered and forgotten: nothing is stored.",
  limits: "JPEG, PNG, WebP or BMP, up to {0} MiB each.",
  options: "Options",
  min_confidence: "Leave out faces with a confidence under",
  min_face: "Leave out faces smaller than",
  cropped: "Each picture is one face, cut out",
  token: "This service asks for a token",
  use_token: "Use it",
  results: "Results",
  clear: "Clear",
  png: "Annotated PNG",
  remove: "Remove",
  again: "Try again",
  of_picture: "{0}: {1}",
  waiting: "Waiting",
  sending: "Sent, waiting for the answer",
  busy: "The service is busy: trying again",
  failed: "No answer",
  no_face: "No face was found in this picture.",
  none_left: "All faces are left out by the options.",
  faces: "{0} faces",
  face_one: "1 face",
  shown_of: "{0} of {1} faces shown",
  took: "{0} ms",
  face: "Face {0}",
  uncertain: "Uncertain",
  uncertain_why: "Uncertain: {0}",
  quality: "Quality of the picture of the face",
  table: "Table",
  table_of: "Faces in {0}, largest first",
  column_face: "Face",
  column_expression: "Apparent expression",
  column_confidence: "Confidence",
  column_uncertain: "Uncertain",
  column_box: "Box: x, y, width, height in px",
  column_score: "Detection score",
  yes: "yes",
  no: "no",
  progress: "{0} of {1} pictures answered",
  progress_failed: "{0} of {1} pictures answered, {2} failed",
  photo_of: "{0}, faces in boxes",
  drawn_note: "Apparent expression, as an annotator would label the picture. Not what a person feels.",
  unreachable_title: "The service cannot be reached",
  unreachable: "It may have been stopped, or the network is down. Try again later.",
  too_large_title: "The file is too large",
  too_large: "It has {0} MiB; {1} MiB are accepted.",
  no_paste: "There is no picture on the clipboard, or the browser does not give it: try Ctrl+V.",
  too_many: "Only the first {0} pictures were taken.",
};

const CHINESE = {
  title: "图片中的面部表情",
  settings: "设置",
  docs: "接口",
  language: "语言",
  theme: "配色",
  theme_auto: "自动",
  theme_light: "浅色",
  theme_dark: "深色",
  meaning_title: "结果的含义",
  meaning: "结果是标注者会为这张图片标注的表观面部表情，并不是人的真实感受，也不能证明是否诚实或有何意图。",
  wrong: "模型有时会出错，置信度高时也会出错。对不同人群的公平性未经测量。",
  prohibited_title: "禁止的用途",
  prohibited_1: "在工作场所或教育机构中的任何使用，用于招聘或监考",
  prohibited_2: "仅凭表情对个人作出决定",
  prohibited_3: "在当事人不知情的情况下使用",
  law: "在欧盟，法律禁止在工作场所和教育机构推断情绪（(EU) 2024/1689 号条例第 5(1)(f) 条，医疗或安全原因除外），取得同意也不例外；在其他场合，必须告知受影响的人（第 50(3) 条）。",
  give_title: "选择图片，或把图片拖到这里",
  choose: "选择图片",
  photograph: "拍照",
  paste: "粘贴",
  privacy: "图片只发送到本服务，不会发往别处；给出结果后即被丢弃，不作任何保存。",
  limits: "支持 JPEG、PNG、WebP 或 BMP，每张不超过 {0} MiB。",
  options: "选项",
  min_confidence: "忽略置信度低于此值的人脸",
  min_face: "忽略小于此尺寸的人脸",
  cropped: "每张图片都是裁剪好的一张人脸",
  token: "本服务需要令牌",
  use_token: "使用",
  results: "结果",
  clear: "清空",
  png: "带标注的 PNG",
  remove: "移除",
  again: "重试",
  of_picture: "{0}：{1}",
  waiting: "等待中",
  sending: "已发送，等待结果",
  busy: "服务繁忙，正在重试",
  failed: "没有结果",
  no_face: "这张图片中没有找到人脸。",
  none_left: "所有人脸都被选项忽略了。",
  faces: "{0} 张人脸",
  face_one: "1 张人脸",
  shown_of: "显示 {0} 张，共 {1} 张人脸",
  took: "{0} 毫秒",
  face: "人脸 {0}",
  uncertain: "不确定",
  uncertain_why: "不确定：{0}",
  quality: "人脸图像的质量",
  table: "表格",
  table_of: "{0} 中的人脸，从大到小",
  column_face: "人脸",
  column_expression: "表观表情",
  column_confidence: "置信度",
  column_uncertain: "不确定",
  column_box: "方框：x、y、宽、高（像素）",
  column_score: "检测得分",
  yes: "是",
  no: "否",
  progress: "{1} 张图片中已有 {0} 张得到结果",
  progress_failed: "{1} 张图片中已有 {0} 张得到结果，{2} 张失败",
  photo_of: "{0}，人脸用方框标出",
  drawn_note: "标注者会为图片标注的表观表情，并非人的真实感受。",
  unreachable_title: "无法连接到服务",
  unreachable: "服务可能已停止，或网络中断。请稍后再试。",
  too_large_title: "文件太大",
  too_large: "文件为 {0} MiB，上限为 {1} MiB。",
  no_paste: "剪贴板中没有图片，或浏览器不允许读取：请试试 Ctrl+V。",
  too_many: "只接受了前 {0} 张图片。",
  // What the service says.
  angry: "愤怒", disgust: "厌恶", fear: "恐惧", happy: "高兴", sad: "悲伤", surprise: "惊讶", neutral: "中性",
  "too small": "太小", "too dark": "太暗", "turned away": "转向一侧", "cut off": "被截断", "low confidence": "置信度低",
  eye_distance_px: "眼距（像素）", sharpness: "清晰度", brightness: "亮度", contrast: "对比度",
  yaw_deg: "偏航角（°）", pitch_deg: "俯仰角（°）", roll_deg: "翻滚角（°）", outside: "超出画面的比例",
  "/docs#malformed-request": "无法读取请求",
  "/docs#unauthorized": "需要令牌",
  "/docs#foreign-origin": "不允许其他网站的页面访问",
  "/docs#slow-request": "请求传输太慢",
  "/docs#too-large": "请求太大",
  "/docs#unsupported-media-type": "请求的类型不受支持",
  "/docs#image-refused": "图片未被接受",
  "/docs#rate-limited": "发送的图片太多",
  "/docs#internal-error": "服务出错",
  "/docs#model-failed": "模型服务器出错",
  "/docs#overloaded": "服务繁忙",
  "/docs#model-unreachable": "模型服务器没有响应",
  "/docs#model-timeout": "模型服务器响应超时",
};

const OF_SERVICE = {
  eye_distance_px: "eye distance (px)", yaw_deg: "yaw (°)", pitch_deg: "pitch (°)", roll_deg: "roll (°)",
  outside: "share outside",
};

export let language = "en";

/** Choose "en" or "zh". */
export function setLanguage(chosen) {
  language = chosen === "zh" ? "zh" : "en";
}

/** Return the page's words for a key, with {0}, {1}, ... replaced. */
export function words(key, ...values) {
  const text = (language === "zh" && CHINESE[key]) || ENGLISH[key] || key;
  return text.replace(/\{(\d)\}/g, (_, place) => values[place]);
}

/** Return a word of the service (a label, a reason, a column) for people; what is unknown stays as it is. */
export function term(word) {
  return (language === "zh" ? CHINESE[word] : OF_SERVICE[word]) || word;
}

/** Return a list of words of the service. */
export function terms(list) {
  return list.map(term).join(language === "zh" ? "、" : ", ");
}

/** Return a share, 0 to 1, in percent with one decimal. */
export function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)} %`;
}

/** Return a number with as many digits as are worth reading. */
export function short(value) {
  return Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}
