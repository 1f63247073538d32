"""Text that headers of packed files are likely to hold, which deflate may point back into (RFC 1950: a preset dictionary).

It belongs to version 2 of the format: changing a single character makes files of that version unreadable. What a new setting
is called need not be here; it only costs its own letters.
"""

from __future__ import annotations

__all__ = ["WORDS"]

# from the unlikely to the likely: what stands nearer the end is pointed at with fewer bits
WORDS = (
    b'"occupancy.cells","shape":[1,128,128,128]"field.density_head.modulation.grids.0","shape":[50,4],'
    b'"field.warp.weights.0"field.warp.biases.0"field.grid.table.0","shape":[65536]"field.colour_head.biases.0"'
    b'"field.colour_head.weights.0"field.density_head.biases.0"field.density_head.weights.0","shape":[64,64]'
    b'"head_bias","head","latents.grids.0","blocks.0.bias","blocks.0.weight"'
    b'{"bits":8,"capture":{"background":"white","cameras":[{"camera_to_world":[[0.0,0.0,0.0,1.0]],"height":400,'
    b'"model":"PINHOLE","params":[555.5555155968841,555.5555155968841,200.0,200.0],"width":400},'
    b'"capture":{"fps":12.0,"frames":9,"height":192,"name":"","raw":true,"width":320},"method":"hash-grid","method":"cam",'
    b'"kind":"video","method":"video","seed":1,"settings":{"backend":"auto","batch":1,"bits":0,"compact":false,'
    b'"grid_learning_rate":0.002,"latent_learning_rate":0.02,"latent_share":0.35,"learning_rate":0.02,"loss":"mse","model":"plain",'
    b'"modulation_nodes":0,"neighbours":0,"norm":false,"parameters":51000,"place_learning_rate":0.02,"place_spacing":null,'
    b'"precision":"auto","quantise_from":0.6}},"step":1000},"tensors":[{"bytes":1970,'
    b'"base_resolution":16,"cascades":1,"colour_layers":2,"cone":0.0,"density_layers":1,"distortion":0.0,"encoder":"hash-grid",'
    b'"exposure":false,"features":2,"finest_resolution":2048,"head_learning_rate":0.002,"head_weight_decay":1e-06,"hidden":64,'
    b'"huber":0.1,"levels":16,"log2_table_size":14,"minimum_alpha":0.002,"modulation":"direction","modulation_channels":1,'
    b'"modulation_factors":"dense","modulation_layers":null,"modulation_learning_rate":0.002,"modulation_resolution":[],'
    b'"most_rays":32768,"near":0.0,"norm":"none","octaves":10,"opacity_entropy":0.0,"occupancy_resolution":64,'
    b'"occupancy_threshold":0.01,"refine_cameras":false,"samples":16384,"steps_across":1023,'
    b'"model":"hash-grid","model":"fourier","protocol":"generalisation","background":"black","depth":"16","depth":"hdr",'
    b'{"dtype":"float32","kind":"plain","name":"dtype":"int64","kind":"raw","kind":"bits","name":"encoding.table","shape":[1024,2]'
    b'{"record":{"bits":6,"capture":{"background":null,"depth":"8","height":256,"name":".png","peak":1.0,"width":384},'
    b'"config":{"data":{"bundled":false,"downscale":1,"holdout":null,"path":"../../.jpg"},"device":"cpu","fieldstone":"0.1.0",'
    b'"format":1,"kind":"image","method":"image","seed":0,"settings":{"backend":"auto","batch":16384,"bits":6,'
    b'"grid_learning_rate":0.04,"learning_rate":0.004,"model":"cam","norm":"layer","parameters":10000,"precision":"auto",'
    b'"protocol":"regression","quantise_from":0.6}},"step":10000},"tensors":[{"bytes":300,"kind":"coded",'
    b'"name":"mlp.modulation.grids.0","shape":[24,6],"step":[12345,-20]},{"bytes":20,"kind":"coded","name":"mlp.weights.0",'
    b'"shape":[40,40],"step":[1,-19]},{"bytes":1000,"kind":"coded","name":"mlp.weights.1","shape":[3,40],"step":[2,-21]},'
    b'{"bytes":100,"kind":"coded","name":"mlp.weights.2","shape":[40],"step":[3,-22]},{"bytes":30,"kind":"coded",'
    b'"name":"mlp.weights.3","shape":[3],"step":[4,-23]},{"bytes":40,"kind":"coded","name":"mlp.biases.0","shape":[40],'
    b'"step":[5,-24]},{"bytes":50,"kind":"coded","name":"mlp.biases.1","shape":[40],"step":[6,-25]},{"bytes":60,"kind":"coded",'
    b'"name":"mlp.biases.2","shape":[40],"step":[7,-26]},{"bytes":10,"kind":"coded","name":"mlp.biases.3","shape":[3],"step":[8,-27]}]}'
)
